"""A loopback Azure: an estate of Azure Machine Learning workspaces made from a seed, and what its services answer.

Nothing here reaches Azure or writes anywhere. Bodies have the shape of recorded exchanges; an item is made when it is
asked for, so that a workspace of 50,000 jobs costs no memory. Faults, throttling and counting belong to tests/azure.
"""
