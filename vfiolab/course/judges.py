"""Exercise -> its cases. A judge runs the model each time it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vfiolab.course.cases import Case
from vfiolab.course.judge_debate import both_layers, serves, who_answers
from vfiolab.course.judge_domains import domain_count, few_containers, hot_add, two_domains
from vfiolab.course.judge_groups import first_refusal, in_the_way, same_group, unsure, who_leaves
from vfiolab.course.judge_interrupts import acs_walk, cookie, cookie_bound
from vfiolab.course.judge_maps import check_order, layout, map_errnos, old_program, parse_info
from vfiolab.course.judge_ranges import fits, imposed, lost_ram, read_line, suspects

#: A judge is called as its exercise is.
JUDGES: dict[str, Callable[[], Iterator[Case]]] = {
    judge.__name__.replace("_", "-"): judge
    for judge in (
        map_errnos, layout, two_domains, few_containers, parse_info, acs_walk, cookie, cookie_bound, hot_add, check_order, old_program,
        domain_count, fits, same_group, in_the_way, first_refusal, lost_ram, serves, imposed, who_leaves, unsure, read_line, suspects,
        who_answers, both_layers,
    )
}  # fmt: skip
