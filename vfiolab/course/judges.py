"""Exercise -> its cases. A judge runs the model each time it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vfiolab.course.cases import Case
from vfiolab.course.judge_debate import both_layers, serves, who_answers
from vfiolab.course.judge_domains import domain_count, few_containers, hot_add, two_domains
from vfiolab.course.judge_groups import first_refusal, in_the_way, leaves, same_group, unsure
from vfiolab.course.judge_interrupts import acs_walk, cookie, cookie_bound
from vfiolab.course.judge_maps import layout, map_errnos, old_program, order, parse_info
from vfiolab.course.judge_ranges import fits, imposed, lost_ram, read_line, suspects

JUDGES: dict[str, Callable[[], Iterator[Case]]] = {
    "map-errnos": map_errnos,
    "layout": layout,
    "two-domains": two_domains,
    "few-containers": few_containers,
    "parse-info": parse_info,
    "acs-walk": acs_walk,
    "cookie": cookie,
    "cookie-bound": cookie_bound,
    "hot-add": hot_add,
    "check-order": order,
    "old-program": old_program,
    "domain-count": domain_count,
    "fits": fits,
    "same-group": same_group,
    "in-the-way": in_the_way,
    "first-refusal": first_refusal,
    "lost-ram": lost_ram,
    "serves": serves,
    "imposed": imposed,
    "who-leaves": leaves,
    "unsure": unsure,
    "read-line": read_line,
    "suspects": suspects,
    "who-answers": who_answers,
    "both-layers": both_layers,
}
