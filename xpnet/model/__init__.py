"""What a network is: layers, a loss, one vector of parameters, and the gradients of its objective."""
