"""From what a request costs to the machines that a load needs: a simulation of one process, and a plan for many."""
