"""Widget apps for JupyterLab: thin; each click calls one public verb and shows it as code."""
