"""Whether a program can be run here on a modelled machine, asked once; where the system refuses it, why not."""

import os
from contextlib import closing
from functools import cache

import pytest

from vfiolab.run import NotPossibleError
from vfiolab.run.seccomp import start


@cache
def refusal():
    """Return why no program can be run; "" if one can."""
    look = os.open(os.devnull, os.O_WRONLY)
    try:
        with closing(start(["true"])) as child:
            for notice in child.notices(look, lambda: False):
                if notice is not None:
                    child.listener.let_pass(notice)
            child.wait()
    except NotPossibleError as refused:
        return str(refused)
    finally:
        os.close(look)
    return ""


possible = pytest.mark.skipif(bool(refusal()), reason=refusal() or "a program can be run here")
