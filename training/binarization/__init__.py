"""Networks of few bits: quantizers, layers that use them, and the kinds of networks made of these layers."""
