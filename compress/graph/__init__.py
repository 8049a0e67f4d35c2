"""An ONNX graph as a torch function: read, run and trained in torch, its numbers written back into the same file.

`reading` parses the file, `operators` says what each operator computes, `quantizers` rounds as the runtime does and lets
gradients through, `module` puts them together, `writing` puts trained numbers back, `agreement` compares with the runtime.

What is trained is what ships: every QuantizeLinear is a learnable fake quantizer exactly where the file has one, so there is
no second description of the network that could differ from the first.
"""
