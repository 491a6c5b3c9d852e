"""Networks for people: tables, differences, drawings, web pages, notebooks."""
