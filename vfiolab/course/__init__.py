"""What makes a notebook a course: commit an answer first, then let the model reveal it."""

from vfiolab.course.predict import Prediction, Reveal, predict

__all__ = ["Prediction", "Reveal", "predict"]
