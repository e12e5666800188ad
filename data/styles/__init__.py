"""Style sample pictures, each painted by code alone from a fixed seed."""
