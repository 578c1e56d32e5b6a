"""Steps of the random networks that people's own code takes: their norms, weights, closures, branches and numbers."""

from __future__ import annotations

from written_draft import PLACES, Draft, Step


def _class(d: Draft, kind: str, text: str) -> str:
    """Add a class and give its name; ``NAME`` stands for it in the text, ``ND`` for 1d, 2d or 3d."""
    name = d.name(kind)
    d.classes[name] = "\n" + text.replace("NAME", name).replace("ND", d.maps).strip("\n") + "\n"
    return name


def _inner(d: Draft) -> tuple[str, int]:
    """A convolution to a width that is free, so that what follows can be pruned."""
    out = d.dice.choice([4, 6, 8])
    layer = d.layer("inner", f"nn.Conv{d.maps}({d.c}, {out}, 1)")
    d.forward.append(f"y = F.relu(self.{layer}(x))")
    return layer, out


def _back(d: Draft, width: int, how: str = "x + ") -> None:
    layer = d.layer("back", f"nn.Conv{d.maps}({width}, {d.c}, 1)")
    d.forward.append(f"x = {how}self.{layer}(y)")


def mixed_number(d: Draft) -> None:
    """Numbers in which channels and sizes meet."""
    _, out = _inner(d)
    size = d.dice.choice(["y[0].numel()", "math.prod(y.shape[1:])", "(y.size(1) * y.shape[2:].numel())"])
    how = d.dice.choice([f"y = y / {size} ** 0.5", f"y = y * (8.0 / {size})", f"y = y + {size} * 1e-3"])
    d.forward.append(how)
    _back(d, out)
    d.drew("a number of channels and sizes")


def channels_first(d: Draft) -> None:
    _, out = _inner(d)
    d.forward += [
        f"n, c, {', '.join('hwd'[: d.dims])} = y.shape",
        f"y = y.reshape(n, c, {' * '.join('hwd'[: d.dims])}).transpose(1, 2)",
        f"y = y.transpose(1, 2).reshape(n, c, {', '.join('hwd'[: d.dims])})",
    ]
    _back(d, out)
    d.drew("reshapes with names for sizes")


def flat(d: Draft) -> None:
    """Pooled to two places each way, flattened and read by a linear layer."""
    _, out = _inner(d)
    pool = d.layer("pool", f"nn.AdaptiveAvgPool{d.maps}(2)")
    fc = d.layer("gate", f"nn.Linear({out} * 2**{d.dims}, {d.c})")
    ways = ["y.flatten(1)", "y.contiguous().view(y.size(0), -1)", "torch.flatten(y, 1)", "y.reshape(len(y), -1)"]
    way = d.dice.choice(ways)
    d.forward += [
        f"y = self.{pool}(y)",
        f"gate = torch.sigmoid(self.{fc}({way}))",
        f"x = x * gate[(...,) + (None,) * {d.dims}]",
    ]
    d.drew("flattened maps")


def standardised(d: Draft) -> None:
    """A convolution whose weight is put right before each use."""
    kind = d.dice.choice(["scaled", "normalised"])
    body = {
        "scaled": f"weight = self.weight * self.gain.view(-1, 1{d.ones})",
        "normalised": "weight = F.normalize(self.weight.flatten(1), dim=1).view_as(self.weight)",
    }[kind]
    gain = "\n        self.gain = nn.Parameter(torch.ones(out_channels))" if kind == "scaled" else ""
    name = _class(d, "OwnConv", f'''
class NAME(nn.ConvND):
    """A convolution with a weight of its own making."""

    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__(in_channels, out_channels, 3, padding=1, **kwargs){gain}

    def forward(self, x):
        {body}
        return F.convND(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
''')
    out = d.dice.choice([4, 6])
    layer = d.layer("own", f"{name}({d.c}, {out})")
    d.forward.append(f"y = F.relu(self.{layer}(x))")
    _back(d, out)
    d.drew(f"a weight that is {kind}")


def own_norm(d: Draft) -> None:
    """A norm over the channels, written out with sums."""
    name = _class(d, "Norm", f'''
class NAME(nn.Module):
    """Divides by the length of the vector at each place."""

    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.dim = dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        length = x.pow(2).sum(dim=1, keepdim=True).add(self.eps).sqrt()
        return x / length * self.weight.view(-1{d.ones})

    def extra_repr(self):
        return f"{{self.dim}}, eps={{self.eps}}"
''')
    _, out = _inner(d)
    layer = d.layer("norm", f"{name}({out})")
    d.forward.append(f"y = self.{layer}(y)")
    _back(d, out)
    d.drew("a norm of their own")


def closure(d: Draft) -> None:
    """Functions made in a constructor."""
    kind = d.dice.choice(["lambda", "partial", "function"])
    _, out = _inner(d)
    if kind == "lambda":
        d.init.append(f"slope = {d.dice.choice([0.1, 0.2])}")
        d.init.append("self.act = lambda t: F.leaky_relu(t, slope)")
    elif kind == "partial":
        d.init.append("self.act = functools.partial(F.elu, alpha=0.7)")
    else:
        d.init += ["def act(t):", f"    return t * torch.sigmoid({d.dice.choice([1.5, 2])} * t)", "", "self.act = act"]
    d.forward.append("y = self.act(y)")
    _back(d, out)
    d.drew(f"a {kind} that is kept")


def padded_shortcut(d: Draft) -> None:
    """The shortcut of the CIFAR networks, whose new channels are zeros."""
    more = d.dice.choice([2, 4])
    name = _class(d, "Padded", f'''
class NAME(nn.Module):
    def __init__(self, in_planes, planes):
        super().__init__()
        self.conv1 = nn.ConvND(in_planes, planes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNormND(planes)
        self.conv2 = nn.ConvND(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNormND(planes)
        self.shortcut = nn.Sequential()
        if in_planes != planes:
            extra = planes - in_planes
            self.shortcut = Lambda(lambda x: F.pad(x, (0, 0) * {d.dims} + (extra // 2, extra - extra // 2)))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)
''')
    d.classes = {"Lambda": '''
class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
''', **d.classes}
    blocks = [f"{name}({d.c}, {d.c + more})", f"{name}({d.c + more}, {d.c + more})"][: d.dice.choice([1, 2])]
    stage = d.layer("layer", f"nn.Sequential({', '.join(blocks)})")
    d.forward.append(f"x = self.{stage}(x)")
    d.c += more
    d.drew("zeros for new channels")


def stages(d: Draft) -> None:
    """The residual stages of the ResNets, with a method that makes them."""
    out = d.dice.choice([6, 8])
    name = _class(d, "Basic", '''
class NAME(nn.Module):
    expansion = 1

    def __init__(self, in_planes, planes, stride=1):
        super(NAME, self).__init__()
        self.conv1 = nn.ConvND(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNormND(planes)
        self.conv2 = nn.ConvND(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNormND(planes)

        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != self.expansion * planes:
            self.shortcut = nn.Sequential(
                nn.ConvND(in_planes, self.expansion * planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNormND(self.expansion * planes),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        out = F.relu(out)
        return out
''')
    stage = _class(d, "Stage", f'''
class NAME(nn.Module):
    """Some blocks in a row."""

    def __init__(self, in_planes, widths=({out}, {out + 2})):
        super().__init__()
        self.in_planes = in_planes
        self.layer1 = self._make_layer({name}, widths[0], {d.dice.choice([1, 2])}, stride=1)
        self.layer2 = self._make_layer({name}, widths[1], {d.dice.choice([1, 2])}, stride=1)

    def _make_layer(self, block, planes, num_blocks, stride):
        strides = [stride] + [1] * (num_blocks - 1)
        layers = []
        for stride in strides:
            layers.append(block(self.in_planes, planes, stride))
            self.in_planes = planes * block.expansion
        return nn.Sequential(*layers)

    def forward(self, x):
        return self.layer2(self.layer1(x))
''')
    layer = d.layer("stage", f"{stage}({d.c})")
    d.forward.append(f"x = self.{layer}(x)")
    d.c = out + 2
    d.drew("stages that a method makes")


def dense(d: Draft) -> None:
    """Every layer reads all that was before."""
    growth, depth = d.dice.choice([2, 3]), d.dice.choice([2, 3])
    name = _class(d, "Dense", '''
class NAME(nn.Module):
    def __init__(self, in_channels, growth_rate, depth):
        super().__init__()
        for i in range(depth):
            self.add_module(f"layer{i}", nn.ConvND(in_channels + i * growth_rate, growth_rate, 3, padding=1))
        self.out_channels = in_channels + depth * growth_rate

    def forward(self, x):
        features = [x]
        for layer in self.children():
            features.append(F.relu(layer(torch.cat(features, 1))))
        return torch.cat(features, 1)
''')
    d.init.append(f"block = {name}({d.c}, {growth}, {depth})")
    layer = d.layer("dense", "block")
    d.forward.append(f"x = self.{layer}(x)")
    d.c += depth * growth
    d.drew("dense")


def selected(d: Draft) -> None:
    """Branches that are weighed against each other."""
    out, n = d.dice.choice([4, 6]), d.dice.choice([2, 3])
    convs = d.layer("ways", f"nn.ModuleList([nn.Conv{d.maps}({d.c}, {out}, 1) for _ in range({n})])")
    kind = d.dice.choice(["learned", "by input"])
    d.forward.append(f"ways = torch.stack([way(x) for way in self.{convs}], dim=1)")
    if kind == "learned":
        alpha = d.layer("alpha", f"nn.Parameter(torch.zeros({n}))")
        d.forward += [f"y = (ways * self.{alpha}.softmax(0).view(1, -1, 1{d.ones})).sum(dim=1)"]
    else:
        fc = d.layer("score", f"nn.Linear({out}, {n * out})")
        d.forward += [
            f"score = self.{fc}(ways.sum(1).mean({d.places})).view(len(x), {n}, -1).softmax(dim=1)",
            f"y = (ways * score[(...,) + (None,) * {d.dims}]).sum(dim=1)",
        ]
    _back(d, out)
    d.drew(f"branches weighed, {kind}")


def fixed_order(d: Draft) -> None:
    """Places of channels are what counts here."""
    _, out = _inner(d)
    d.forward.append(d.dice.choice([
        "y = y.flip(1)", "y = torch.roll(y, 1, dims=1)", "y = y.cumsum(dim=1)", "y = y.softmax(dim=1)",
        "y = y[:, torch.arange(y.shape[1] - 1, -1, -1)]", "y = y.sort(dim=1).values",
        "y = y[:, ::2].repeat_interleave(2, 1)",
        "y = torch.cat([y[:, 1:], y[:, :1]], dim=1)", "y = y - y[:, :1]", "y = y * y.amax(dim=1, keepdim=True)",
        "y = torch.fft.fft(y, dim=1).real",
    ]))  # fmt: skip
    _back(d, out)
    d.drew("an order of channels")


def shifted(d: Draft) -> None:
    """Some of the channels move by one place."""
    _, out = _inner(d)
    fold = d.dice.choice([1, 2])
    d.forward += [
        f"moved = torch.roll(y[:, :{fold}], 1, dims=2)",
        f"y = torch.cat([moved, y[:, {fold}:]], dim=1)",
    ]
    _back(d, out)
    d.drew("channels that move")


def own_way(d: Draft) -> None:
    """A branch that training, a size or a flag decides, with layers of its own."""
    _, out = _inner(d)
    other = d.layer("other", f"nn.Conv{d.maps}({out}, {out}, 1)")
    tests = ["self.training", "not self.training", "y.shape[-1] > 9", "len(y) > 2", "self.extra", "not self.extra"]
    test = d.dice.choice(tests)
    if "extra" in test:
        d.init.append(f"self.extra = {d.dice.choice([True, False])}")
    d.forward += [f"if {test}:", f"    y = F.relu(self.{other}(y))"]
    if d.dice.random() < 0.5:
        d.forward += ["else:", f"    y = y * {d.dice.choice([0.5, 2])}"]
    _back(d, out)
    d.drew("a way of its own")


def early(d: Draft) -> None:
    """A helper method that may return early."""
    _, out = _inner(d)
    name = _class(d, "Early", '''
class NAME(nn.Module):
    def __init__(self, channels, use_norm=True):
        super().__init__()
        self.use_norm = use_norm
        self.norm = nn.BatchNormND(channels) if use_norm else None
        self.conv = nn.ConvND(channels, channels, 1)

    def forward(self, x):
        x = self.conv(x)
        if self.norm is None:
            return x
        return self.norm(x)
''')
    layer = d.layer("early", f"{name}({out}, use_norm={d.dice.random() < 0.6})")
    d.forward.append(f"y = self.{layer}(y)")
    _back(d, out)
    d.drew("an early return")


def configured(d: Draft) -> None:
    """Layers made from a table, as detectors do."""
    rows = [(d.dice.choice([4, 6]), d.dice.choice([1, 3])) for _ in range(d.dice.choice([2, 3]))]
    d.init += [
        f"cfg = {rows}",
        f"width, layers = {d.c}, []",
        "for out, kernel in cfg:",
        f"    layers += [nn.Conv{d.maps}(width, out, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]",
        "    width = out",
    ]
    layer = d.layer("features", "nn.Sequential(*layers)")
    d.forward.append(f"x = self.{layer}(x)")
    d.c = rows[-1][0]
    d.drew("layers from a table")


def parameters_in_lists(d: Draft) -> None:
    _, out = _inner(d)
    kind = d.dice.choice(["list", "dictionary"])
    if kind == "list":
        name = d.layer("scales", f"nn.ParameterList([nn.Parameter(torch.ones({out}{d.ones})) for _ in range(2)])")
        d.forward += [f"for scale in self.{name}:", "    y = torch.tanh(y * scale)"]
    else:
        entries = f'"scale": nn.Parameter(torch.ones({out}{d.ones})), "shift": nn.Parameter(torch.zeros({out}{d.ones}))'
        name = d.layer("affine", f"nn.ParameterDict({{{entries}}})")
        d.forward.append(f'y = y * self.{name}["scale"] + self.{name}["shift"]')
    _back(d, out)
    d.drew(f"parameters in a {kind}")


def products(d: Draft) -> None:
    """A convolution as a matrix product, bilinear forms, outer sums."""
    _, out = _inner(d)
    to = d.dice.choice([4, 6])
    kind = d.dice.choice(["matmul", "linear", "einsum of two", "baddbmm"])
    at = PLACES[d.dims][1:]
    if kind == "matmul":
        w = d.layer("weight", f"nn.Parameter(torch.randn({to}, {out}) * 0.1)")
        d.forward.append(f"y = (self.{w} @ y.flatten(2)).view(len(y), {to}, *y.shape[2:])")
    elif kind == "linear":
        w = d.layer("weight", f"nn.Parameter(torch.randn({to}, {out}) * 0.1)")
        d.forward.append(f"y = F.linear(y.movedim(1, -1), self.{w}).movedim(-1, 1)")
    elif kind == "baddbmm":
        w = d.layer("weight", f"nn.Parameter(torch.randn({to}, {out}) * 0.1)")
        b = d.layer("shift", f"nn.Parameter(torch.randn({to}, 1))")
        d.forward += [
            "n = y.size(0)",
            f"flat = torch.baddbmm(self.{b}.expand(n, -1, 1), self.{w}.expand(n, -1, -1), y.flatten(2))",
            f"y = flat.view(n, {to}, *y.shape[2:])",
        ]
    else:
        second = d.layer("second", f"nn.Conv{d.maps}({d.c}, {to}, 1)")
        d.forward.append(f'y = torch.einsum("nc{at},no{at}->no{at}", y, self.{second}(x))')
    _back(d, to)
    d.drew(f"a product: {kind}")


def channel_attention(d: Draft) -> None:
    """ECA reads neighbours among the channels; a spatial gate reads their largest."""
    _, out = _inner(d)
    kind = d.dice.choice(["neighbours", "spatial"])
    if kind == "neighbours":
        conv = d.layer("eca", "nn.Conv1d(1, 1, 3, padding=1, bias=False)")
        d.forward += [
            f"gate = self.{conv}(y.mean({d.places}).unsqueeze(1)).sigmoid().squeeze(1)",
            f"y = y * gate[(...,) + (None,) * {d.dims}]",
        ]
    else:
        conv = d.layer("spatial", f"nn.Conv{d.maps}(2, 1, 3, padding=1)")
        d.forward += [
            "pooled = torch.cat([y.amax(dim=1, keepdim=True), y.sum(dim=1, keepdim=True)], dim=1)",
            f"y = y * torch.sigmoid(self.{conv}(pooled))",
        ]
    _back(d, out)
    d.drew(f"a gate: {kind}")


def masks(d: Draft) -> None:
    """where, clamp and comparisons."""
    _, out = _inner(d)
    d.forward.append(d.dice.choice([
        "y = torch.where(y > 0.5, y, 0.1 * y)", "y = y.clamp(min=0, max=6)", "y = y.masked_fill(y < 0.2, 0.0)",
        "y = torch.maximum(y, 0.3 * y.detach())", "y = y * (y > 0.1).to(y.dtype)", "y = y.sub(0.2).abs()",
    ]))  # fmt: skip
    _back(d, out)
    d.drew("where and clamp")


def shared_block(d: Draft) -> None:
    """One block that two places hold."""
    name = _class(d, "Shared", '''
class NAME(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.reduce = nn.ConvND(channels, hidden, 1)
        self.norm = nn.BatchNormND(hidden)
        self.expand = nn.ConvND(hidden, channels, 1)

    def forward(self, x, scale=1.0):
        return x + scale * self.expand(F.relu(self.norm(self.reduce(x))))
''')
    first = d.layer("block", f"{name}({d.c}, {d.dice.choice([4, 6])})")
    second = d.layer("again", f"self.{first}")
    d.forward += [f"x = self.{first}(x)", f"x = self.{second}(x, scale=0.5)"]
    d.drew("a block that two attributes hold")


def mixture(d: Draft) -> None:
    """Half of the channels multiply the others."""
    out = d.dice.choice([2, 3, 4])
    conv = d.layer("both", f"nn.Conv{d.maps}({d.c}, {2 * out}, 1)")
    way = d.dice.choice(["a, b = both.chunk(2, dim=1)", "a, b = both.split(both.size(1) // 2, 1)",
                         "a, b = both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]",
                         f"a, b = both.unflatten(1, (2, {out})).unbind(1)"])  # fmt: skip
    d.forward += [f"both = self.{conv}(x)", way, "y = a * torch.sigmoid(b)"]
    _back(d, out)
    d.drew("halves that multiply")


def groups_norm(d: Draft) -> None:
    """Groups that a helper chooses from the width."""
    if "get_groups" not in d.classes:
        d.classes = {"get_groups": '''
def get_groups(channels, most=4):
    """The largest number of groups that divides the channels."""
    return max(g for g in range(1, most + 1) if channels % g == 0)
''', **d.classes}
    out = d.dice.choice([6, 8, 12])
    layer = d.layer("inner", f"nn.Conv{d.maps}({d.c}, {out}, 1)")
    norm = d.layer("norm", f"nn.GroupNorm(get_groups({out}), {out})")
    d.forward.append(f"y = F.silu(self.{norm}(self.{layer}(x)))")
    _back(d, out)
    d.drew("groups from a helper")


HABITS: tuple[Step, ...] = (
    mixed_number, channels_first, flat, standardised, own_norm, closure, padded_shortcut, stages, dense, selected,
    fixed_order, shifted, own_way, early, configured, parameters_in_lists, products, channel_attention, masks,
    shared_block, mixture, groups_norm,
)  # fmt: skip
