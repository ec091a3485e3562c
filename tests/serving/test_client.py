import numpy as np, time
from serving.client import Client
def test_smoke(server, digits):
    with Client(server.address) as c:
        p = c.predict(digits["test"].pixels)
        print(np.bincount(p.class_ids), p.probabilities[:2], p.versions)
        print(c.status(), c.metadata())
        print(Client(server.address, label="stable").predict(digits["test"].pixels[:2]))
        print(Client(server.address, model="half_plus_two").metadata())
