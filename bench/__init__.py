"""How much the server costs, beside the same model called directly and beside another revision of the server."""
