"""What networks cost: counted, measured for each image, and on the clock."""
