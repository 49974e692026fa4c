"""The page at ``/docs``: the API to read and to try, without any other server."""
