"""What a good video is: the dimensions, the rubric over states, the rewards."""
