"""The monitor: what a server has answered, compared with the held-out reference of the version that answered."""
