"""What there is: runs and how they stand, one run at a glance, the machine and its traps. Needs no torch to list runs."""
