"""Batch prediction: model.py calls the model, inputs.py and outputs.py read and write, job.py is the Beam job."""
