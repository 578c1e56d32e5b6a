"""Networks in the form that binary layers want. The layers are arguments, so every kind of network is one class."""
