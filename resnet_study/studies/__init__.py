"""What a study declares, where studies are, and running, slicing and publishing one."""
