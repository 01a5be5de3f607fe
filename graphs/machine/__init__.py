"""What is a run? Its state, its nodes, the graphs that they make, and what they report while they run."""
