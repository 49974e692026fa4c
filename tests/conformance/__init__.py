"""Whether ``/openapi.json`` is true: Schemathesis makes requests out of it, and judges the answers by it."""
