"""Problems in specs: places, codes, printing and export, and suggestions for unknown names."""
