"""CNSN: networks whose tail detaches into smaller ones (doi 10.2991/jrnal.k.210521.012)."""
