"""Accelerators: tables of accelerators and cloud instances, and detection of this machine's."""
