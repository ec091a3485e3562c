"""What data must look like, and the gate that stops the run when it does not."""
