"""What the objects look like: ids, objects, requests, events, errors, pages. Pure values, no waiting."""
