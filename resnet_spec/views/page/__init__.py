"""A network as one web page that needs nothing else: drawing, table and YAML, tied together."""
