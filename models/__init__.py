"""Networks: an encoder from a typed description, pretrained weights in, cost, latency, the artifact.

Tensors carry their shape in their name. The legend:

    B  examples in a batch          H  heads
    L  positions (queries, keys)    K  width of one head (d_head)
    D  model width (d_model)        F  feed-forward width (d_ff)
    C  classes                      P  values in one patch of an image
    R  rank of a factored embedding T  3, for query, key and value

`keep_BL` is True where a position holds an input and False where it is padding. A number such as the 1 in
`mask_B11L` is itself. Images are the exception: `pixels_BHWC` has height, width and channels. This package
imports nothing heavy; its modules do.
"""
