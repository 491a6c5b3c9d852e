"""Drawings of networks: what to draw (diagram), where (pieces, frames, layout) and in which file format (render)."""
