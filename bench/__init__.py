"""How much the server adds to the model: the same upstream, called directly and through it, in the same minutes."""
