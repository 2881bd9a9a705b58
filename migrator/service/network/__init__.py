"""How a container is connected, and how its connection moves with it. Nothing here knows a plan or a step."""
