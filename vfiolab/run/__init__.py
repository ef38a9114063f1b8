"""A program of yours on a machine that is not there: its calls on /dev/vfio and sysfs are caught, and the model answers. Linux only.

What may not come in: rules of the kernel. What is here handles the files and the memory of a real process, and asks the model.
"""

from vfiolab.run.runner import Outcome, run_program
from vfiolab.run.seccomp import NotPossibleError

__all__ = ["NotPossibleError", "Outcome", "run_program"]
