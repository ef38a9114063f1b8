"""What makes a notebook a course: commit an answer first, then let the model reveal it; and the experiments that it stands on.

What may not come in: answers. A truth is run on the model, a question is data.
"""

from vfiolab.course.answer import Answer, answer
from vfiolab.course.benches import two_units
from vfiolab.course.predict import Prediction, Reveal, predict
from vfiolab.course.questions import ask

__all__ = ["Answer", "Prediction", "Reveal", "answer", "ask", "predict", "two_units"]
