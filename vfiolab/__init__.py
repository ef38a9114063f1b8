"""A model of Linux VFIO: groups, containers, domains."""
