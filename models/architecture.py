"""What a network is built from: its architecture (searched) and its signature (given by the data). No torch."""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, model_validator

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "geglu", "swiglu"]
Norm = Literal["layer", "rms"]
NormPlacement = Literal["pre", "post"]
Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "none"]
Pooling = Literal["mean", "cls", "max"]

Size = Annotated[int, Field(strict=True, ge=1)]


def _one_or_many(value: Any) -> str:
    return "per_layer" if isinstance(value, list | tuple) else "all_layers"


PerLayer = Annotated[
    Annotated[Size, Tag("all_layers")] | Annotated[tuple[Size, ...], Tag("per_layer")],
    Discriminator(_one_or_many),
]


class Layer(NamedTuple):
    """The sizes of one layer."""

    n_heads: int
    d_head: int
    d_ff: int
    attention_rank: int | None = None
    feed_forward_rank: int | None = None


class Product(NamedTuple):
    """One matrix product of a layer. It goes through `rank` dimensions where that takes fewer weights."""

    n_in: int
    n_out: int
    rank: int | None

    @property
    def factored(self) -> bool:
        """Whether it is two thin matrices instead of one."""
        return self.rank is not None and self.rank * (self.n_in + self.n_out) < self.n_in * self.n_out

    @property
    def weights(self) -> int:
        """Numbers in its matrices, the bias left out."""
        rank = self.rank if self.factored else None
        return self.n_in * self.n_out if rank is None else rank * (self.n_in + self.n_out)


class Products(NamedTuple):
    """The four of a layer."""

    qkv: Product
    out: Product
    inner: Product
    outer: Product


def products(d_model: int, layer: Layer, gated: bool) -> Products:
    """What a layer multiplies by; the products of queries with keys and with values are not among them."""
    heads, d_inner = layer.n_heads * layer.d_head, layer.d_ff * (2 if gated else 1)
    return Products(
        qkv=Product(d_model, 3 * heads, layer.attention_rank),
        out=Product(heads, d_model, layer.attention_rank),
        inner=Product(d_model, d_inner, layer.feed_forward_rank),
        outer=Product(layer.d_ff, d_model, layer.feed_forward_rank),
    )


class Architecture(BaseModel):
    """Shape and kind of a Transformer encoder (Vaswani et al. 2017, arXiv:1706.03762).

    `n_heads`, `d_head` and `d_ff` are one number for all layers or one number for each. The inner width of
    attention, n_heads * d_head, need not equal d_model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: Size = Field(2, description="Transformer layers")
    d_model: Size = Field(128, description="width of the residual stream")
    n_heads: PerLayer = Field(4, description="attention heads; one number, or one per layer")
    d_head: PerLayer = Field(32, description="width of one head; one number, or one per layer")
    d_ff: PerLayer = Field(512, description="inner width of the feed-forward; one number, or one per layer")
    activation: Activation = Field(
        "gelu", description="of the feed-forward; geglu and swiglu are gated (Shazeer 2020, arXiv:2002.05202)"
    )
    norm: Norm = Field("layer", description="layer (Ba et al. 2016) or rms (Zhang and Sennrich 2019)")
    norm_placement: NormPlacement = Field("pre", description="before each branch, or after each sum as in BERT")
    norm_eps: float = Field(1e-5, gt=0, lt=1, description="added to the variance in a norm")
    positions: Positions = Field("learned", description="how a position is told from another")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="on embeddings, on the output of each branch, and before the head"
    )
    pooling: Pooling = Field("mean", description="how the positions of an example become one vector")
    embedding_rank: Size | None = Field(
        None, description="rank of a factored token embedding (Lan et al. 2019, arXiv:1909.11942); null: full"
    )
    embedding_norm: bool = Field(False, description="a norm after the embeddings, as in BERT")
    attention_rank: PerLayer | None = Field(
        None,
        description="rank of the products around attention, each factored where that is smaller; null: full",
    )
    feed_forward_rank: PerLayer | None = Field(
        None, description="rank of the products of the feed-forward, each factored where that is smaller; null: full"
    )
    patch: Size | None = Field(None, description="side of a square patch of an image, in pixels; null for text")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if faults := self._faults():
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> list[str]:
        faults = [
            f"{name} has {len(values)} values, must have one for each of the {self.n_layers} layers; "
            f"give {self.n_layers} values or one number for all layers"
            for name in Layer._fields
            if isinstance(values := getattr(self, name), tuple) and len(values) != self.n_layers
        ]
        if self.positions == "rotary" and any(d % 2 for d in _as_tuple(self.d_head, 1)):
            faults.append(f"d_head is {self.d_head}, must be even for rotary positions; choose an even d_head")
        if self.positions == "sinusoidal" and self.d_model % 2:
            faults.append(f"d_model is {self.d_model}, must be even for sinusoidal positions; choose an even d_model")
        if self.embedding_rank is not None and self.embedding_rank >= self.d_model:
            faults.append(
                f"embedding_rank is {self.embedding_rank}, must be less than d_model ({self.d_model}); "
                "lower it, or set it to null for a full embedding"
            )
        return faults

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The sizes of each layer, first to last."""
        return tuple(map(Layer, *(_as_tuple(getattr(self, name), self.n_layers) for name in Layer._fields)))

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has a gate, and so half as many weights again."""
        return self.activation in ("geglu", "swiglu")


def _as_tuple(values: Any, n: int) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,) * n


class TokenSignature(BaseModel):
    """Text in: token ids of at most `max_length` positions, padded with `pad_id`; `n_classes` logits out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Literal["tokens"]
    vocab_size: Size
    max_length: Size
    pad_id: int = Field(ge=0)
    n_classes: Size


class PixelSignature(BaseModel):
    """Images in: float32 of height * width * channels, already multiplied by `scale`; `n_classes` logits out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Literal["pixels"]
    height: Size
    width: Size
    channels: Size
    scale: float = Field(gt=0)
    n_classes: Size


Signature = TokenSignature | PixelSignature
_SIGNATURE: TypeAdapter[Signature] = TypeAdapter(Annotated[Signature, Field(discriminator="input")])


def parse_signature(signature: dict[str, Any]) -> Signature:
    """The typed form of a task's signature; unknown or wrong entries raise pydantic's ValidationError."""
    return _SIGNATURE.validate_python(signature)


def check_fit(architecture: Architecture, signature: Signature) -> None:
    """Raise ValueError where an architecture cannot take what the signature gives."""
    patch = architecture.patch
    if isinstance(signature, TokenSignature):
        faults = [f"patch is {patch}, must be null for text; leave it out"] if patch is not None else []
    else:
        faults = _pixel_faults(architecture, signature)
    if faults:
        raise ValueError("\n".join(faults))


def _pixel_faults(architecture: Architecture, signature: PixelSignature) -> list[str]:
    height, width = signature.height, signature.width
    fitting = [p for p in range(1, min(height, width) + 1) if height % p == 0 and width % p == 0]
    faults = []
    if architecture.patch not in fitting:
        faults.append(
            f"patch is {'null' if architecture.patch is None else architecture.patch}, must divide the image's "
            f"height {height} and width {width}; choose one of {', '.join(map(str, fitting))}"
        )
    if architecture.embedding_rank is not None:
        faults.append(
            f"embedding_rank is {architecture.embedding_rank}, must be null for images, "
            "which have no token embedding; leave it out"
        )
    return faults


def n_positions(architecture: Architecture, signature: Signature) -> int:
    """The most positions an example has: tokens, or patches and, for `cls` pooling, one more."""
    if isinstance(signature, TokenSignature):
        return signature.max_length
    assert architecture.patch is not None
    patches = (signature.height // architecture.patch) * (signature.width // architecture.patch)
    return patches + (architecture.pooling == "cls")
