"""What makes a notebook a course: commit an answer first, then let the model reveal it."""

from vfiolab.course.benches import two_units
from vfiolab.course.predict import Prediction, Reveal, predict
from vfiolab.course.questions import ask

__all__ = ["Prediction", "Reveal", "ask", "predict", "two_units"]
