"""Help under headings: what matters first, then the rest by what it is about."""

from __future__ import annotations

import click

from .config import from_file

OWN = "Of this command alone"
FIRST = "model arch weights data input_shape macs ratio output"
HEADINGS = {
    "First of all": FIRST,
    OWN: "",  # what is in no other one
    "The network": (
        "ema allow_class network model_arg kind_arg first_layer last_layer init_from example dtype attn residual "
        "per_layer skip tie_declared"
    ),
    "How much is kept": "params latency layers experts latency_batch latency_table round_to min_channels",
    "What is searched": (
        "metric search score score_seconds alpha mode direction per retrain_epochs stop_early jobs backend address "
        "cache_gb"
    ),
    "Weights without training": "transfer calibration heal",
    "Training": (
        "epochs final_epochs regime lr optimizer batch_size warm_up loss label_smoothing beta sparsify sparsity "
        "distill temperature print_freq tensorboard"
    ),
    "The machine": "device amp half accumulate workers data_on_device seed",
    "The run": "evaluate resume force dry_run profile config json quiet verbose",
}
_FEW = 16  # so many options need no headings


class Command(click.Command):
    """A command whose many options are shown under headings, and may come from a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not {"-h", "--help"} & set(args):
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
            group = ctx.parent.command if ctx.parent else None
            known = group.commands if isinstance(group, click.Group) else {}
            given = {name: value for name, value in given.items() if value is not None and value != ()}
            path, ctx.default_map = from_file(self, given, known)
            if ctx.default_map and not {"quiet", "json"} & {*given, *ctx.default_map}:
                click.echo(f"from {path}: {', '.join(n.replace('_', '-') for n in ctx.default_map)}", err=True)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = {p.name: record for p in self.get_params(ctx) if (record := p.get_help_record(ctx)) is not None}
        if len(shown) <= _FEW:
            super().format_options(ctx, formatter)
            return
        parts = {title: [shown.pop(n) for n in names.split() if n in shown] for title, names in HEADINGS.items()}
        own = self.get_help_option(ctx)
        parts["The run"] += [shown.pop(own.name)] if own is not None and own.name in shown else []
        parts[OWN] = list(shown.values())
        for title, records in parts.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
