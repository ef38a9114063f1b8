"""What makes a notebook a course: commit an answer first, then let the model reveal it; and the machines and experiments it stands on.

What may not come in: answers. A truth is run on the model, a question is data.
"""

from vfiolab.course.answer import Answer, answer
from vfiolab.course.captures import capture, real_regions, recorded_calls, recorded_messages
from vfiolab.course.exercises import Checked, Exercise, check, exercise
from vfiolab.course.experiments import carry_out, outcomes, summary
from vfiolab.course.machines import (
    EMULATED,
    FIRMWARE,
    GRAPHICS,
    NARROW,
    PLAIN,
    arm_board,
    firmware_host,
    hotplug_host,
    no_iommu,
    region_answers,
    three_ports,
    two_below_a_switch,
    two_units,
)
from vfiolab.course.predict import Prediction, Reveal, predict
from vfiolab.course.questions import ask
from vfiolab.course.seeded import problem
from vfiolab.course.twins import carry_out_twins, twin_answers, twins

__all__ = [
    "EMULATED", "FIRMWARE", "GRAPHICS", "NARROW", "PLAIN", "Answer", "Checked", "Exercise", "Prediction", "Reveal", "answer", "arm_board",
    "ask",
    "capture", "carry_out", "carry_out_twins", "check", "exercise", "firmware_host",
    "hotplug_host", "no_iommu", "outcomes", "predict", "problem", "real_regions", "recorded_calls", "recorded_messages", "region_answers",
    "summary", "three_ports", "twin_answers", "twins", "two_below_a_switch", "two_units",
]  # fmt: skip
