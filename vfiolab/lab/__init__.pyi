# The apps, and the runs behind them.

from vfiolab.lab.app import Lab as Lab
from vfiolab.lab.build import BuildLab as BuildLab
from vfiolab.lab.debate import DebateLab as DebateLab, TwinLab as TwinLab
from vfiolab.lab.drill import Drill as Drill
from vfiolab.lab.explorer import Explorer as Explorer
from vfiolab.lab.groups import IsolationLab as IsolationLab, IsolationRun as IsolationRun
from vfiolab.lab.groups import ViabilityLab as ViabilityLab, ViabilityRun as ViabilityRun
from vfiolab.lab.log import LogLab as LogLab
from vfiolab.lab.machine import MachineLab as MachineLab
from vfiolab.lab.split import SplitLab as SplitLab
from vfiolab.lab.stepper import Stepper as Stepper
from vfiolab.lab.windows import JOINING as JOINING, MEMORY as MEMORY, HotAddLab as HotAddLab, HotAddRun as HotAddRun
from vfiolab.lab.windows import WindowLab as WindowLab, WindowRun as WindowRun
