"""The version: CMake, the wheel and the package read it here."""

__version__ = "0.1.0"
