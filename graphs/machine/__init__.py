"""The state machine of a run: its state, its nodes, the graphs of the nodes, and the parts that they emit."""
