"""Every study of the report: its question, its command, and the numbers that are shown, with what they stand beside."""

from pathlib import Path
from typing import NamedTuple


class Number(NamedTuple):
    """One row of the results table: a number of a study and what it stands beside."""

    label: str
    key: str  # in metrics.json; "fc/test_mse" for the model fc
    baseline: str = ""  # its key
    baseline_name: str = ""
    published: str = "-"
    target: str = "-"
    form: str = "{:.2e}"
    goal: float | None = None  # the target as a number, where it is one
    higher_is_better: bool = False
    sigma: str = ""  # key of the standard error of the number for one test set
    detail: bool = False  # only in the report, not in the README's table


class Study(NamedTuple):
    script: str
    function: str
    variant: str  # tells runs of one function apart; may be empty
    title: str
    asks: str  # the question, in a sentence or two
    flags: str  # of the published protocol
    quick: str  # flags that shorten it, appended
    numbers: tuple[Number, ...]

    @property
    def name(self) -> str:
        return "_".join(part for part in (self.function, self.variant) if part)

    def folder(self, output: Path, profile: str) -> Path:
        """The --output_dir of a run: one for all functions of a script, which may read one another's models."""
        return output / profile / self.script / self.variant

    @property
    def command(self) -> str:
        return f"python {self.script}.py --function {self.function} {self.flags}".strip()


DATA = {  # of each script: what it reads in full, where it is from
    "lstm_ae_toy": "10,000 generated sequences of 50 values",
    "lstm_ae_mnist": "MNIST, 60,000 + 10,000 digits of 28 x 28 pixels (LeCun, Cortes, Burges)",
    "lstm_ae_snp500": "daily prices of 505 stocks, 2014 to 2017, 497,472 rows (Kaggle, gauravmehta13)",
    "adv_alstm": "ACL18, 20,315 + 2,555 + 3,720 samples, and KDD17, 64,307 + 8,070 + 7,398 (archive of Feng et al.)",
    "stocktwits_sentiment": "96,967 messages of StockTwits about $SPY, 2017, 91,066 distinct texts (G. Hoffman)",
    "jv_training": "Japanese Vowels, 270 + 370 utterances of 7 to 29 steps (UCI; Kudo, Toyama, Shimbo 1999)",
}
TOY = "--mirror --input_size 10 --clock_harmonics 4"
TOY_QUICK = "--epochs 40 --limit 2000"
DIGITS_QUICK = "--limit 6000 --epochs 12"
VOWELS = "--seeds 10"
VOWELS_QUICK = "--seeds 2 --epochs 10 --basic_epochs 10 --folds 2 --epsilon 1"
MESSAGES_QUICK = "--epochs 1 --limit 8000 --seeds 1"
STOCKS = "--epochs 3 --batch_size 512"
STOCKS_QUICK = "--epochs 5 --limit 20000"
PLACES = ("none", "input", "convolution", "lstm", "all")


def key(model: str, name: str) -> str:
    """The key of a number of one of several models, "" for a study's only one."""
    return f"{model}/{name}".strip("/")


def below_pca(
    names: dict[str, str], target: str = "below PCA", goal: float | None = None, detail: tuple[str, ...] = ()
) -> tuple[Number, ...]:
    """The test errors of several models, each beside PCA with a code of the same size; `detail` names some of them."""
    return tuple(
        Number(
            label,
            key(model, "test_mse"),
            key(model, "pca_mse"),
            "PCA",
            target=target,
            goal=goal,
            detail=model in detail,
        )
        for model, label in names.items()
    )


def accuracy(
    model: str,
    label: str = "accuracy",
    baseline: str = "majority_accuracy",
    baseline_name: str = "majority",
    published: str = "-",
    goal: float | None = None,
    target: str = "",
    detail: bool = False,
) -> Number:
    return Number(
        label,
        key(model, "test_accuracy"),
        baseline if "/" in baseline else key(model, baseline),
        baseline_name,
        published,
        target or (f"{100 * goal:.1f} %" if goal else "-"),
        "{:.2%}",
        goal,
        higher_is_better=True,
        sigma=key(model, "test_accuracy_sigma"),
        detail=detail,
    )


def mase(goal: float) -> tuple[Number, ...]:
    return (
        Number("MASE", "mase", "linear_mase", "persistence 1, linear", "-", f"at most {goal:g}", "{:.3f}", goal),
        Number("MASE, 95 % interval from", "mase_low", form="{:.3f}", detail=True),
        Number("MASE, 95 % interval to", "mase_high", form="{:.3f}", detail=True),
        Number("test error, USD", "test_mae", "persistence_mae", "persistence", form="{:.3f}"),
    )


def beside_plain(mode: str, published: str) -> tuple[Number, ...]:
    """The accuracy of a mode and of its seeds' vote, beside the plain model with the same budget."""
    plain = "plain, as many epochs"
    return (
        accuracy(mode, f"accuracy, {mode}", "plain/test_accuracy", plain, published, 0.989),
        accuracy(mode, f"vote of the seeds, {mode}", "plain/vote_accuracy", plain, "100 % (1,000 nets)")._replace(
            key=f"{mode}/vote_accuracy"
        ),
    )


def movement(published: dict[str, tuple[str, str]], goals: tuple[float, float]) -> tuple[Number, ...]:
    """Accuracy and MCC of the models of `compare`; published: of some of them, by the name in metrics.json."""
    rows = []
    for name, label in (
        ("lstm", "LSTM"),
        ("alstm", "ALSTM"),
        ("rand_alstm", "Rand-ALSTM"),
        ("adv_alstm", "Adv-ALSTM"),
        ("two_stage_alstm", "ALSTM in two stages"),
        ("two_stage_adv_alstm", "Adv-ALSTM in two stages"),
        ("yesterday", "yesterday's direction"),
    ):
        known, detail = published.get(name, ("-", "-")), name not in ("lstm", "alstm", "adv_alstm")
        if name == "adv_alstm":
            known = tuple(f"{value}, two stages" for value in published["two_stage_adv_alstm"])
        goal, mcc_goal = goals if name == "adv_alstm" else (None, None)
        rows.append(
            accuracy(
                name,
                f"accuracy, {label}",
                "always_up/test_accuracy",
                "always up",
                known[0],
                goal,
                f"{100 * goal:.2f} %" if goal else "-",
                detail,
            )
        )
        rows.append(
            Number(
                f"MCC, {label}",
                f"{name}/test_mcc",
                "always_up/test_mcc",
                "always up",
                known[1],
                f"{mcc_goal:g}" if mcc_goal else "-",
                "{:.4f}",
                mcc_goal,
                True,
                detail=not mcc_goal,
            )
        )
    return tuple(rows)


def sentiment(goal: float | None = None) -> tuple[Number, ...]:
    name, published = "bag of words and pairs", "71.7 % (texts repeated across parts)"
    return (
        accuracy("", baseline="bag_of_words_accuracy", baseline_name=name, published=published, goal=goal),
        Number("log loss", "test_log_loss", "bag_of_words_log_loss", name, form="{:.4f}"),
        Number("sigmas above the bag of words", "sigmas_above_bag_of_words", form="{:.1f}"),
    )


STUDIES = (
    Study(
        "lstm_ae_toy",
        "plot_examples",
        "",
        "Toy sequences: examples",
        "What the synthetic sequences look like.",
        "",
        "",
        (),
    ),
    Study(
        "lstm_ae_toy",
        "reconstruct",
        "",
        "Toy: three sines",
        "Sums of three sines are given by nine numbers. How much of 50 values passes through a code of 16, where a "
        "linear code needs many more?",
        f"--code_size 16 --hidden_size 256 --stretch .85 --epochs 100 {TOY}",
        TOY_QUICK,
        below_pca({"": "test MSE, code 16"}, "1.8e-3", 1.8e-3),
    ),
    Study(
        "lstm_ae_toy",
        "reconstruct",
        "walk",
        "Toy: random walks",
        "The steps of a random walk are independent, and PCA is the best linear code. Is a nonlinear one better?",
        f"--signal walk --code_size 8 16 32 --epochs 150 {TOY}",
        TOY_QUICK,
        below_pca({f"code{n}": f"test MSE, code {n}" for n in (8, 16, 32)}),
    ),
    Study(
        "lstm_ae_toy",
        "reconstruct",
        "uniform",
        "Toy: uniform noise",
        "Noise has no structure but the quiet steps 20 to 29: no code can do much better than PCA. Does the "
        "autoencoder reach it?",
        f"--signal uniform --code_size 16 32 --epochs 60 {TOY}",
        TOY_QUICK,
        below_pca({f"code{n}": f"test MSE, code {n}" for n in (16, 32)}, "1.2 x PCA"),
    ),
    Study(
        "lstm_ae_toy",
        "reconstruct",
        "uniform_grid",
        "Toy: the published grid, with a bottleneck",
        "A published grid search reports a validation error of 1.67e-4 on noise, with a decoder that also read the "
        "encoder's outputs. What remains of it when all must pass through the code?",
        "--signal uniform --input_size 1 --code_size 0 --epochs 10 --hidden_size 8 16 32 --learning_rate .1 .01 .001 "
        "--gradient_clipping 1 5",
        "--epochs 1 --limit 2000",
        (Number("best validation MSE", "val_mse", "pca_mse", "PCA", "1.67e-4, without bottleneck"),),
    ),
    Study(
        "lstm_ae_mnist",
        "reconstruct",
        "",
        "MNIST by rows: reconstruction",
        "A digit is read row by row and written again from its code alone, by fully connected (fc) and convolutional "
        "(conv) LSTMs. How far below PCA is the error at each size of the code?",
        "--model both --code_size 128 64 32 16 8 --precision bfloat16",
        f"{DIGITS_QUICK} --code_size 64 16",
        below_pca(
            {f"{m}_{n}": f"test MSE, {m}, code {n}" for m in ("fc", "conv") for n in (8, 16, 32, 64, 128)},
            detail=("fc_8", "fc_32", "conv_8", "conv_32"),
        ),
    ),
    Study(
        "lstm_ae_mnist",
        "classify",
        "",
        "MNIST by rows: classes",
        "Reconstruction and class from one code of 64 values: does either suffer?",
        "--model both --code_size 64 --shift 1 --reconstruction_dominance .97 --precision bfloat16",
        DIGITS_QUICK,
        (
            accuracy("fc", "accuracy, fc", published="about 98.9 %", goal=0.991),
            accuracy("conv", "accuracy, conv", goal=0.992),
            *below_pca({"fc": "test MSE, fc", "conv": "test MSE, conv"}),
        ),
    ),
    Study(
        "lstm_ae_mnist",
        "classify",
        "pixels",
        "MNIST pixel by pixel (T=784)",
        "The class of a digit that is read one pixel per step, 784 steps, while it is also written again.",
        "--model fc --sequence pixels --batch_size 32 --learning_rate 2e-3 --epochs 20 --reconstruction_dominance .9 "
        "--precision bfloat16",
        "--limit 1500 --epochs 1",
        (
            accuracy("", published="98.9 % (LSTM), 99.0 % (BN-LSTM)", goal=0.98, target="98.0 % on a CPU"),
            *below_pca({"": "test MSE"}, "-"),
        ),
    ),
    Study("lstm_ae_snp500", "plot_prices", "", "S&P 500: prices", "The daily high of AMZN and GOOGL.", "", "", ()),
    Study(
        "lstm_ae_snp500",
        "reconstruct",
        "",
        "S&P 500: reconstruction of 50 days",
        "Fifty daily highs from a code of 16 values, on dates after all that was trained on.",
        "--code_size 16 --hidden_size 128 --batch_size 64 --epochs 10",
        STOCKS_QUICK,
        below_pca({"": "test MSE, code 16"}, "-"),
    ),
    Study(
        "lstm_ae_snp500",
        "reconstruct",
        "folds",
        "S&P 500: five blocks of time",
        "The same, with each fifth of the dates as test data once.",
        "--code_size 16 --hidden_size 128 --batch_size 128 --epochs 6 --folds 5",
        STOCKS_QUICK,
        (Number("test MSE, mean of the blocks", "test_mse_mean", "pca_mse_mean", "PCA"),),
    ),
    Study(
        "lstm_ae_snp500",
        "predict",
        "",
        "S&P 500: the next day's high from all prices",
        "Tomorrow's high from 20 days of open, high, low, close and volume: by how much is the error below that of "
        "persistence, which says that tomorrow's high is today's? MASE is the ratio of the two.",
        f"--inputs ohlcv --window 20 {STOCKS} --seeds 3",
        f"{STOCKS_QUICK} --seeds 1",
        mase(0.84),
    ),
    Study(
        "lstm_ae_snp500",
        "predict",
        "high",
        "S&P 500: the next day's high from past highs",
        "The same from past highs alone, which hold almost nothing.",
        f"--inputs high --window 20 --learning_rate 1e-3 {STOCKS} --seeds 3",
        f"{STOCKS_QUICK} --seeds 1",
        mase(0.998),
    ),
    Study(
        "adv_alstm",
        "compare",
        "acl18",
        "Stock movement: ACL18",
        "Will the price of a stock go up or down tomorrow? 87 stocks, 2014 and 2015, windows of the last days in 11 "
        "features; every model with the same budget, the published recipe in two stages beside it.",
        "--dataset acl18 --seeds 10 --pretrain",
        "--seeds 2 --epochs 5",
        movement(
            {"lstm": ("53.18 %", ".0674"), "alstm": ("54.90 %", ".1043"), "two_stage_adv_alstm": ("57.20 %", ".1483")},
            (0.572, 0.148),
        ),
    ),
    Study(
        "adv_alstm",
        "compare",
        "kdd17",
        "Stock movement: KDD17",
        "The same for 50 stocks, 2007 to 2016.",
        "--dataset kdd17 --seeds 10 --pretrain",
        "--seeds 2 --epochs 1",
        movement(
            {"lstm": ("51.62 %", ".0183"), "alstm": ("51.94 %", ".0261"), "two_stage_adv_alstm": ("53.05 %", ".0523")},
            (0.5305, 0.052),
        ),
    ),
    Study(
        "adv_alstm",
        "train",
        "acl18_grid",
        "Stock movement: ACL18, Adv-ALSTM chosen on validation",
        "Do other lengths and weights of the perturbation, or another penalty, help? Chosen on validation data.",
        "--dataset acl18 --epsilon .05 5 --beta .01 .5 --l2 .01 1",
        "--epochs 1 --limit 5000",
        (
            accuracy(
                "", baseline="always_up_test_accuracy", baseline_name="always up", published="57.20 %, in two stages"
            ),
            Number("MCC", "test_mcc", "always_up_test_mcc", "always up", form="{:.4f}", higher_is_better=True),
        ),
    ),
    Study(
        "adv_alstm",
        "plot",
        "",
        "Stock movement: attention, epsilon, beta",
        "Which days does the attention weigh, how does the validation accuracy depend on the length and the weight "
        "of the perturbation, and what does a perturbation do to the scores?",
        "--dataset acl18 --epochs 50 --seeds 2",
        "--epochs 3 --seeds 1",
        (),
    ),
    Study(
        "jv_training",
        "basic",
        "",
        "Japanese Vowels: plain LSTM",
        "Which of nine men said /ae/? One test error is 0.27 %.",
        VOWELS,
        VOWELS_QUICK,
        (accuracy("", published="HMM 96.2 %; 91.4 % on the leaking course file"),),
    ),
    Study(
        "jv_training",
        "basic",
        "l2",
        "Japanese Vowels: plain LSTM on steps of length 1",
        "The same on inputs as the publication normalises them, which drops how large a step is.",
        f"--normalization l2 {VOWELS}",
        VOWELS_QUICK,
        (accuracy(""),),
    ),
    Study(
        "jv_training",
        "adversarial",
        "",
        "Japanese Vowels: adversarial training",
        "Does training on perturbed inputs of the LSTM, along the gradient of the loss, raise the accuracy above "
        "that of as many further epochs of plain training?",
        VOWELS,
        VOWELS_QUICK,
        beside_plain("AdvLSTM", "95.0 % on the leaking course file"),
    ),
    Study(
        "jv_training",
        "proximal",
        "",
        "Japanese Vowels: proximal LSTM",
        "Does an LSTM whose cell state is kept insensitive to its input by a proximal map do so?",
        VOWELS,
        VOWELS_QUICK,
        beside_plain("ProxLSTM", "94.3 % on the leaking course file"),
    ),
    Study(
        "jv_training",
        "dropout",
        "",
        "Japanese Vowels: dropout by place",
        "Where does dropout help?",
        VOWELS,
        VOWELS_QUICK,
        tuple(accuracy(p, f"dropout: {p}", "none/test_accuracy", "none", detail=True) for p in PLACES),
    ),
    Study(
        "jv_training",
        "batch_norm",
        "",
        "Japanese Vowels: batch norm by place",
        "Where does batch norm help?",
        VOWELS,
        VOWELS_QUICK,
        tuple(accuracy(p, f"batch norm: {p}", "none/test_accuracy", "none", detail=True) for p in PLACES),
    ),
    Study(
        "jv_training",
        "robustness",
        "",
        "Japanese Vowels: robustness",
        "What the methods are for: how does the accuracy fall with the size of a perturbation, chosen against the "
        "model or random?",
        "",
        "",
        tuple(
            Number(
                f"accuracy under an attack of .3 of the norm of v, {mode}",
                f"{mode}/accuracy_attack_0.3",
                "plain/accuracy_attack_0.3",
                "plain",
                form="{:.2%}",
                higher_is_better=True,
            )
            for mode in ("AdvLSTM", "ProxLSTM")
        ),
    ),
    Study(
        "stocktwits_sentiment",
        "baseline",
        "",
        "$SPY messages: bag of words",
        "Bullish or bearish? Logistic regression on the words and word pairs of a message is the opponent.",
        "",
        "--limit 8000",
        (accuracy("", published="78.6 % (words and bigrams)"),),
    ),
    Study(
        "stocktwits_sentiment",
        "train",
        "",
        "$SPY messages: sentiment",
        "Do embeddings and stacked LSTMs read a message better than a bag of words? No text is in two parts.",
        "--precision bfloat16 --seeds 5",
        MESSAGES_QUICK,
        sentiment(0.8),
    ),
    Study(
        "stocktwits_sentiment",
        "train",
        "adversarial",
        "$SPY messages: adversarial training",
        "The same, trained on perturbed embeddings as well.",
        "--precision bfloat16 --epsilon 2",
        MESSAGES_QUICK,
        sentiment(),
    ),
    Study(
        "stocktwits_sentiment",
        "train",
        "published",
        "$SPY messages: the tutorial's configuration",
        "A tutorial's model and training on this split.",
        "--precision bfloat16 --published",
        MESSAGES_QUICK,
        sentiment(),
    ),
)
