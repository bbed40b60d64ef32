from fastreid.engine.defaults import DefaultTrainer

from .fix import fix


@fix
def evaluate_in_mixed_precision() -> None:
    """Speed: an evaluation is in float32 with norms of their own, whatever SOLVER.AMP says. See TEST.FAST."""
    test = DefaultTrainer.test.__func__

    def test_fast(cls, cfg, model):
        from igoas_plugin.modeling.fast_inference import for_evaluation  # it needs the mended host

        return test(cls, cfg, for_evaluation(cfg, model))

    DefaultTrainer.test = classmethod(test_fast)
