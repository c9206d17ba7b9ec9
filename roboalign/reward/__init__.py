"""The dimensions of the reward, the rubric over states, reward models, and the rewards that alignment maximises."""
