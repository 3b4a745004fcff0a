import torch
from torch.nn import functional as F

from models.architecture import Architecture, PixelSignature, TokenSignature
from models.front_ends import PixelFrontEnd, TokenFrontEnd

IMAGE = PixelSignature(input="pixels", height=4, width=6, channels=3, scale=1.0, n_classes=2)
TEXT = TokenSignature(input="tokens", vocab_size=9, max_length=5, pad_id=0, n_classes=2)


def test_patches_are_a_convolution_of_equal_step_and_size():
    front_end = PixelFrontEnd(Architecture(patch=2, d_model=8), IMAGE).double()
    pixels_BHWC = torch.rand(2, 4, 6, 3, dtype=torch.float64)
    kernel = front_end.project.weight.view(8, 2, 2, 3).permute(0, 3, 1, 2)
    expected = F.conv2d(pixels_BHWC.permute(0, 3, 1, 2), kernel, front_end.project.bias, stride=2)
    torch.testing.assert_close(front_end(pixels_BHWC), expected.flatten(2).transpose(1, 2), rtol=0, atol=1e-12)


def test_a_trained_vector_stands_before_the_patches_for_cls_pooling():
    front_end = PixelFrontEnd(Architecture(patch=2, d_model=8, pooling="cls"), IMAGE)
    torch.nn.init.normal_(front_end.cls)
    x_BLD = front_end(torch.rand(2, 4, 6, 3))
    assert x_BLD.shape == (2, 7, 8)
    assert torch.equal(x_BLD[0, 0], front_end.cls)
    assert torch.equal(x_BLD[1, 0], front_end.cls)


def test_a_factored_embedding_is_a_product_of_two_tables():
    front_end = TokenFrontEnd(Architecture(d_model=8, embedding_rank=3), TEXT)
    table = front_end.embedding.weight @ front_end.expand.weight.T
    assert front_end.embedding.weight.shape == (9, 3)
    torch.testing.assert_close(front_end(torch.tensor([[4, 0, 8]])), table[[4, 0, 8]][None])
