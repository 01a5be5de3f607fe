"""The wire format: ids, objects, requests, events, errors and pages. Pure values without I/O."""
