"""Draws a picture of a method, a model or its runs, and prints the path of the file.

python tools/visualize.py occlusion --config-file FILE [KEY VALUE ...]
python tools/visualize.py ranks --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py activations --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py embedding --config-file FILE MODEL.WEIGHTS PATH [KEY VALUE ...]
python tools/visualize.py curves RUN [RUN ...]

The picture is OUTPUT_DIR/<command>.png, or --output; curves.png is in the folder of the run or of all runs. No GPU is
needed (MODEL.DEVICE).
"""

import argparse
import sys

from tool_arguments import parser_of, require_config, require_path, require_weights, without_pairs


def arguments(words: list[str]) -> argparse.Namespace:
    """Parses the command line; `opts` are KEY VALUE pairs, `runs` the folders of curves."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, about: str, aliases: tuple[str, ...] = ()) -> argparse.ArgumentParser:
        added = commands.add_parser(name, aliases=aliases, help=about, description=about, allow_abbrev=False)
        added.add_argument("--config-file", default="", metavar="FILE")
        where = "the folder of the run or of all runs" if name == "curves" else "OUTPUT_DIR"
        added.add_argument("--output", metavar="PATH", help=f"png, pdf or svg (default: {name}.png in {where})")
        return added

    occlusion = command("occlusion", "what the occlusion block does to a batch, epoch by epoch")
    ranks = command("ranks", "what a model finds for queries: right, wrong, and in the same camera")
    activations = command("activations", "feature maps of clean and occluded images, over the images", ("responses",))
    curves = command("curves", "CMC and training curves of several runs")
    embedding = command("embedding", "descriptors of some identities in two dimensions")
    ranks.add_argument(
        "--queries", nargs="+", default=["random"], metavar="WHICH",
        help="random (default), worst or best by average precision; or positions, or (ends of) paths",
    )  # fmt: skip
    ranks.add_argument("--top", type=int, default=10, help="images in a rank list (default: 10)")
    ranks.add_argument("--hide-junk", action="store_true", help="hide images of the query's identity in its own camera")
    activations.add_argument("--images", nargs="+", default=[], metavar="PATH", help="default: random gallery images")
    activations.add_argument("--epoch", type=int, help="epoch, from 1, whose occlusion is applied (default: the last)")
    curves.add_argument("--scalars", nargs="+", default=[], metavar="NAME", help="default: total_loss, Rank-1, mAP")
    embedding.add_argument("--identities", nargs="+", default=[], metavar="ID", help="default: a random choice")
    embedding.add_argument("--method", choices=("tsne", "pca"), default="tsne", help="default: %(default)s")
    for each, count, what in (
        (occlusion, 4, "images of the batch"), (ranks, 8, "queries"), (activations, 3, "images"),
        (embedding, 10, "identities"),
    ):  # fmt: skip
        each.add_argument("--count", type=int, default=count, help=f"number of {what} (default: {count})")
        each.add_argument("--seed", type=int, default=0, help="seed of the random choice (default: 0)")
    words, opts = without_pairs(words)
    args, others = parser.parse_known_args(words)
    if unknown := [word for word in others if word.startswith("--")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.runs = others if args.command == "curves" else []
    args.opts = opts if args.command == "curves" else opts + others
    return args


def main(words: list[str]) -> None:
    args = arguments(words)
    if args.config_file or args.command != "curves":
        require_config(args.config_file, args.opts)
    require_weights(args.opts)
    for run_folder in args.runs:
        require_path(run_folder, "name the folder of a run of tools/train_net.py")
    from igoas_plugin.cli.visualize import run

    run(args)


if __name__ == "__main__":
    main(sys.argv[1:])
else:  # a process that this one starts imports this file before anything of fast-reid
    import igoas_plugin  # noqa: F401
