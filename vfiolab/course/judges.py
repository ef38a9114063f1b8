"""Exercise -> its cases. A judge runs the model each time it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vfiolab.course.cases import Case
from vfiolab.course.judge_domains import few_containers, hot_add, two_domains
from vfiolab.course.judge_interrupts import acs_walk, cookie, cookie_bound
from vfiolab.course.judge_maps import layout, map_errnos, old_program, order, parse_info

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
}
