"""The words of the field as data: what each means, why it matters here, and which live drawing shows it (assets/drawings.js)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Term:
    """One word of the field, for people who do not program."""

    word: str
    sentence: str  # what it means
    matters: str  # why it matters in Loupe
    related: tuple[str, ...]  # slugs
    also: tuple[str, ...] = ()  # other names of it, and parts that have no entry of their own
    drawing: str = ""

    @property
    def slug(self) -> str:
        """Its name in the URL: ?term=batch-size."""
        return self.word.lower().replace(" ", "-")


GROUPS: dict[str, tuple[Term, ...]] = {
    "Images and labels": (
        Term(
            "image", "A grid of numbers, one for each grey pixel or three for each coloured one: that is all a network ever sees.",
            "The network looks at a small copy, so a detail that you cannot see in that copy is lost on it too.",
            ("class", "label", "augmentation"), ("picture", "pixel", "image size"),
        ),
        Term(
            "class", "One of the answers that a network can choose from, such as cat or dog.",
            "A network only ever answers with a class it was trained on: shown a horse, it still says cat or dog.",
            ("label", "softmax", "class-balance"), ("category", "classes"),
        ),
        Term(
            "label", "What a person says that an image shows.",
            "The network learns from the labels and is judged by them, so a wrong label does harm twice.",
            ("class", "label-smoothing", "accuracy"), ("annotation", "ground truth"),
        ),
        Term(
            "split", "The three parts of a dataset: training images to learn from, validation images to choose by, and test images for "
            "one last honest judgement.",
            "Whoever is examined with the exercises of the lesson looks better than they are, so an image keeps its split for good.",
            ("overfitting", "generalisation", "near-duplicate"), ("training set", "validation", "test set", "train/validation/test", "dataset"),
        ),
        Term(
            "class balance", "How evenly the images are spread over the classes.",
            "With 95 cats and 5 dogs, always answering cat is right 95 times of 100; weights or balanced sampling make the rare class count.",
            ("class", "recall", "confusion-matrix"), ("imbalance", "rare classes", "class weights", "balanced sampling"),
        ),
        Term(
            "near duplicate", "An image that is almost the same as another one, such as the next frame of a film or a copy in another size.",
            "With one of the two in training and the other in the test, the test asks for what has already been seen.",
            ("split", "embedding", "generalisation"), ("duplicate", "leak"),
        ),
    ),
    "The network": (
        Term(
            "network", "A long calculation with many adjustable numbers that turns the pixels of an image into one score for each class.",
            "Nobody writes down how a cat looks: the network finds numbers that work, and the Train page shows it doing so.",
            ("layer", "parameters", "loss"), ("neural network", "model", "architecture"),
        ),
        Term(
            "layer", "One stage of the network: it takes in numbers, calculates, and hands new numbers on to the next stage.",
            "First layers find edges and colours, later ones put them together into eyes, wheels and whole things.",
            ("convolution", "dense-layer", "backbone"), ("layers",),
        ),
        Term(
            "parameters", "The adjustable numbers inside a network; training does nothing but change them.",
            "More of them can learn more, but ask for more images, memory and time: small networks here have some thousand, VGG-16 has "
            "138 million.",
            ("gradient-descent", "weight-decay", "overfitting"), ("weights", "weight"),
        ),
        Term(
            "convolution", "Slides a small window of weights over the picture and writes down, place by place, how well the patch under it "
            "matches.",
            "The same nine weights serve every place, so a network learns an edge once and then finds it anywhere.",
            ("filter", "stride", "padding", "pooling"), ("convolutional layer", "CNN", "ConvNet"), "convolution",
        ),
        Term(
            "filter", "The small grid of weights that a convolution slides over the picture.",
            "Here you choose one by hand; a network starts with random ones and learns those that help.",
            ("convolution", "parameters", "stride"), ("kernel", "window"), "convolution",
        ),
        Term(
            "stride", "How many pixels the window moves from one place to the next.",
            "A stride of 2 looks at every second place, so the map has half the width, and what follows costs a quarter.",
            ("convolution", "padding", "pooling"), (), "convolution",
        ),
        Term(
            "padding", "A rim of zeros around the picture, so that the window can also stand at its edge.",
            "With one pixel of padding a 3×3 window keeps the size of the picture; without it every layer shaves off a rim.",
            ("convolution", "stride", "filter"), (), "convolution",
        ),
        Term(
            "pooling", "Keeps one number of every small square: the largest (max pooling) or the average.",
            "The map shrinks, later layers see more of the picture at once, and a pixel more or less to the left hardly counts.",
            ("convolution", "stride", "layer"), ("max pooling", "average pooling"), "pooling",
        ),
        Term(
            "activation", "A simple bend in the calculation after a layer; the commonest, ReLU, turns everything below 0 into 0.",
            "Without a bend any number of layers could do no more than a single one.",
            ("layer", "sigmoid", "gradient"), ("ReLU", "GELU", "tanh", "activation function"), "activation",
        ),
        Term(
            "dense layer", "A layer in which every output is a weighted sum of all inputs.",
            "It sits at the end of most networks and turns what was found into one score for each class.",
            ("layer", "head", "parameters"), ("fully connected layer", "linear layer", "dense"),
        ),
        Term(
            "dropout", "Switches off a random share of the numbers in a layer at every training step.",
            "No part can rely on one other part alone, which works against memorising; when the network answers, nothing is switched off.",
            ("overfitting", "weight-decay", "augmentation"), (),
        ),
        Term(
            "normalisation", "A layer that brings the numbers passing through it to an average of 0 and a spread of 1, then scales and shifts "
            "them as it has learned.",
            "Training becomes faster and steadier; batch norm measures within each batch, so it is unreliable with very small ones.",
            ("batch", "layer", "learning-rate"), ("batch norm", "batch normalisation", "layer norm"),
        ),
        Term(
            "backbone", "All layers of a network but the last: they turn a picture into a list of telling numbers.",
            "A good backbone knows edges, textures and parts of things, and serves many tasks.",
            ("head", "pretrained", "freezing", "embedding"), ("body", "encoder"),
        ),
        Term(
            "head", "The last layer of a network, which turns what the backbone found into one score for each class.",
            "A new task needs a new head, because the classes are others; it is small and learned in seconds.",
            ("backbone", "dense-layer", "logits"), ("classifier", "last layer"),
        ),
        Term(
            "embedding", "The list of numbers that the backbone makes of an image: alike pictures get lists that lie close together.",
            "The map on the Label page, near duplicates and Teach me all work on it.",
            ("backbone", "near-duplicate", "transfer-learning"), ("features", "feature vector"),
        ),
        Term(
            "pretrained", "Begun with weights that were learned from another, larger collection of images, mostly ImageNet.",
            "Edges and textures are known from the first step, so a few dozen images of your own can be enough.",
            ("transfer-learning", "backbone", "fine-tuning"), ("ImageNet", "pretrained weights"),
        ),
        Term(
            "transfer learning", "Taking over what a network learned from one task to begin another.",
            "It is the best start with few images: keep the backbone, train a new head, and go on from there.",
            ("pretrained", "freezing", "fine-tuning"), (),
        ),
        Term(
            "freezing", "Leaving the weights of some layers as they are while the others learn.",
            "With the backbone frozen Loupe can run it once for each image and then train the head in seconds.",
            ("backbone", "fine-tuning", "head"), ("freeze", "frozen", "unfreeze"),
        ),
        Term(
            "fine-tuning", "Letting a pretrained network learn on with your images, mostly with a small learning rate.",
            "It often gains a few points over a frozen backbone, but takes longer and can forget what it knew.",
            ("freezing", "learning-rate", "transfer-learning"), ("discriminative learning rates",),
        ),
    ),
    "How it learns": (
        Term(
            "epoch", "One pass in which the network sees every training image once.",
            "Ten epochs mean that every image was seen ten times; too many, and it begins to learn them by heart.",
            ("step", "batch", "early-stopping"), ("epochs",),
        ),
        Term(
            "batch", "The images that are looked at before the weights change once.",
            "Large batches give steady steps but need memory; when memory runs out, a smaller batch is the first remedy.",
            ("step", "epoch", "learning-rate"), ("batch size", "mini-batch"),
        ),
        Term(
            "step", "One change of the weights, after one batch.",
            "1,000 images in batches of 50 make 20 steps to an epoch.",
            ("batch", "gradient-descent", "epoch"), ("iteration",), "descent",
        ),
        Term(
            "loss", "One number for how wrong the answers are; training tries to make it small.",
            "It falls before accuracy rises, and a validation loss that climbs again is the first sign of memorising.",
            ("cross-entropy", "gradient-descent", "overfitting"), ("error", "cost"), "cross_entropy",
        ),
        Term(
            "cross-entropy", "The usual loss: minus the logarithm of the probability that the network gave to the right class.",
            "A sure right answer costs almost nothing, a guess among ten classes costs 2.3, and a sure wrong answer costs very much.",
            ("loss", "softmax", "label-smoothing"), ("log loss", "negative log-likelihood", "NLL"), "cross_entropy",
        ),
        Term(
            "gradient", "For every weight, how fast the loss would rise if that weight grew a little.",
            "It points uphill, so training goes the other way; where it is 0, nothing moves.",
            ("gradient-descent", "loss", "saliency"), ("slope", "derivative", "backpropagation"), "descent",
        ),
        Term(
            "gradient descent", "Changing every weight a little against its gradient, again and again, so that the loss goes down.",
            "This one rule trains every network in Loupe.",
            ("gradient", "learning-rate", "optimiser"), (), "descent",
        ),
        Term(
            "learning rate", "How far one step goes: the gradient is multiplied by this number.",
            "It is the first setting to try when a run goes badly: too small and it crawls, too large and it flies apart.",
            ("gradient-descent", "schedule", "warm-up"), ("LR", "step size"), "descent",
        ),
        Term(
            "optimiser", "The rule that turns gradients into changes of the weights.",
            "Adam forgives a poor learning rate; SGD with momentum often ends a little better when it is tuned.",
            ("sgd", "adam", "momentum"), ("optimizer",), "descent",
        ),
        Term(
            "SGD", "Gradient descent on one random batch at a time instead of on all images at once.",
            "It is cheap and well understood, but asks for a well-chosen learning rate.",
            ("gradient-descent", "momentum", "batch"), ("stochastic gradient descent",), "descent",
        ),
        Term(
            "momentum", "Carries a share of the last step into the next one, like a ball that keeps rolling.",
            "It speeds up long gentle slopes and smooths the zigzag between steep ones; too much of it overshoots.",
            ("sgd", "optimiser", "learning-rate"), (), "descent",
        ),
        Term(
            "Adam", "An optimiser that gives every weight a step size of its own, from running averages of its gradients and their squares.",
            "It works almost everywhere with a learning rate of 0.001, which is why it is the default here.",
            ("optimiser", "adamw", "learning-rate"), (),
        ),
        Term(
            "AdamW", "Adam with weight decay taken straight off the weights instead of through the gradient.",
            "Choose it when you use weight decay, above all with large pretrained networks.",
            ("adam", "weight-decay", "optimiser"), (),
        ),
        Term(
            "schedule", "The plan by which the learning rate changes during a run.",
            "Large steps first to get near, small ones at the end to settle: often a point or two of accuracy for free.",
            ("learning-rate", "warm-up", "one-cycle", "cosine"), ("learning rate schedule", "constant", "step schedule"), "schedules",
        ),
        Term(
            "warm-up", "Letting the learning rate rise from nearly 0 during the first steps.",
            "At first the weights are random and the gradients wild; small steps then break nothing.",
            ("schedule", "learning-rate", "one-cycle"), ("warmup",), "schedules",
        ),
        Term(
            "one-cycle", "A schedule that climbs to a high learning rate in the first quarter of the run and then sinks to almost 0.",
            "It allows larger learning rates than a constant one and trains well in few epochs.",
            ("schedule", "warm-up", "cosine"), (), "schedules",
        ),
        Term(
            "cosine", "A schedule in which the learning rate falls like half a cosine wave: slowly, then faster, then slowly to 0.",
            "It needs nothing but the number of epochs, and is a safe choice for longer runs.",
            ("schedule", "one-cycle", "learning-rate"), ("cosine annealing",), "schedules",
        ),
        Term(
            "gradient clipping", "Shortening a gradient that is longer than a limit, without turning it.",
            "One odd batch can then not throw the weights far off.",
            ("gradient", "learning-rate", "loss"), ("clip", "norm"),
        ),
        Term(
            "EMA", "A running average of the weights over the last steps (exponential moving average).",
            "Single steps jitter and their average does not, so it often answers a little better than the last weights.",
            ("parameters", "step", "checkpoint"), ("exponential moving average", "average of the weights"),
        ),
        Term(
            "mixed precision", "Doing most of the arithmetic in numbers of 16 bits (bfloat16) instead of 32.",
            "On a GPU it is up to twice as fast and needs less memory, with hardly any effect on the answers.",
            ("device", "batch", "parameters"), ("bfloat16", "float32", "numeric precision"),
        ),
        Term(
            "device", "The part of the machine that does the arithmetic: the processor (CPU) or a graphics card (GPU).",
            "A GPU trains large networks many times faster; small ones learn in seconds on a CPU.",
            ("mixed-precision", "batch", "network"), ("GPU", "GPUs", "CPU", "CUDA", "devices"),
        ),
        Term(
            "seed", "The number that all random choices of a run start from.",
            "The same seed, images and settings give the same run on the same machine, and two seeds show how much is luck.",
            ("batch", "augmentation", "interval"), ("random seed",),
        ),
        Term(
            "checkpoint", "A file with the weights and all else that training needs to go on.",
            "A run that was paused or cut off continues from its last one, and the best epoch is kept in another.",
            ("epoch", "early-stopping", "parameters"), (),
        ),
        Term(
            "progressive resizing", "Training with small images first and with the full size for the last epochs.",
            "Small images cost a fraction of the time, and what was learned from them carries over.",
            ("epoch", "image", "augmentation"), (),
        ),
    ),
    "Learning, not memorising": (
        Term(
            "overfitting", "Learning the training images by heart, with their accidents, instead of what they have in common.",
            "The sign is a training loss that falls while the validation loss rises; more images, augmentation or an earlier stop help.",
            ("generalisation", "early-stopping", "augmentation", "weight-decay"), ("memorising", "overfit"), "overfitting",
        ),
        Term(
            "generalisation", "How well a network does on images that it has never seen.",
            "It is the only thing that counts in use, and validation and test images are there to measure it.",
            ("overfitting", "split", "accuracy"), ("generalise",), "overfitting",
        ),
        Term(
            "early stopping", "Ending the training when the validation figure has not become better for some epochs; their number is the patience.",
            "It saves time and keeps the epoch before memorising took over.",
            ("overfitting", "epoch", "checkpoint"), ("patience",), "overfitting",
        ),
        Term(
            "weight decay", "Pulls every weight a little towards 0 at each step.",
            "Large weights allow wild answers, small ones smooth answers, so it works against memorising.",
            ("parameters", "adamw", "overfitting"), ("L2 regularisation",),
        ),
        Term(
            "augmentation", "Changing the training images at random each time they are seen: turned, cropped, recoloured.",
            "It is like having more images, but only where the change keeps the meaning: a mirrored cat is a cat, a mirrored 3 is nothing.",
            ("overfitting", "randaugment", "mixup"), ("flip", "crop", "rotate", "colour jitter"),
        ),
        Term(
            "RandAugment", "Augmentation by a few changes drawn at random from a fixed list, all with one strength.",
            "One number to choose instead of a dozen, and a good default for photographs.",
            ("augmentation", "overfitting", "mixup"), (),
        ),
        Term(
            "mixup", "Lays two training images over each other and asks for both labels in the same proportion.",
            "Between two classes the network then learns a gentle slope instead of a cliff, and is less often sure and wrong.",
            ("cutmix", "label-smoothing", "augmentation"), ("alpha",),
        ),
        Term(
            "CutMix", "Pastes a rectangle of one training image into another and asks for both labels in proportion to their areas.",
            "The network must use the whole object and not only its most telling spot.",
            ("mixup", "augmentation", "overfitting"), (),
        ),
        Term(
            "label smoothing", "Asks for a little less than full certainty: a small share of each label is spread over all classes.",
            "The network gets less sure of itself and forgives some wrong labels, so its probabilities mean more.",
            ("cross-entropy", "label", "probability"), (), "cross_entropy",
        ),
    ),
    "Answers and how good they are": (
        Term(
            "logits", "The raw scores that the last layer gives, one for each class, before softmax.",
            "They can be any number: only their differences count.",
            ("softmax", "head", "probability"), ("logit", "scores"), "softmax",
        ),
        Term(
            "softmax", "Turns any list of scores into shares that are all above 0 and add up to 1.",
            "What the app calls a probability comes from it, and it always names a winner, even for a picture of nothing.",
            ("logits", "probability", "sigmoid", "cross-entropy"), ("temperature",), "softmax",
        ),
        Term(
            "sigmoid", "Squeezes any one score into a number between 0 and 1.",
            "With two classes one such number says all: the probability of the second class, and the rest to 1 for the first.",
            ("softmax", "activation", "logits"), (), "activation",
        ),
        Term(
            "probability", "The share of softmax that an answer got: how strongly the network holds it.",
            "A confidence of 99% is not 99 times right of 100: networks tend to be too sure, above all of pictures unlike any they learned from.",
            ("softmax", "label-smoothing", "accuracy"), ("confidence", "certainty"), "softmax",
        ),
        Term(
            "accuracy", "The share of images that were answered correctly.",
            "Always ask how many images it was measured on and how common each class is: 95% can be worthless.",
            ("interval", "confusion-matrix", "class-balance"), (),
        ),
        Term(
            "interval", "The range around a measured figure that would hold the true one in about 95 of 100 such measurements.",
            "27 of 30 right is 90%, but the interval runs from 74% to 97%; with more images it becomes narrow.",
            ("accuracy", "split", "seed"), ("confidence interval",),
        ),
        Term(
            "confusion matrix", "A table with a row for every true class and a column for every answer that counts the images in each cell.",
            "Right answers lie on the diagonal; every other cell is a kind of mistake, and a click on the Evaluate page shows its images.",
            ("accuracy", "precision", "recall"), (),
        ),
        Term(
            "precision", "Of the images that were given a class, the share that truly belong to it.",
            "It is low when there are many false alarms; raising it mostly costs recall.",
            ("recall", "confusion-matrix", "f1"), (),
        ),
        Term(
            "recall", "Of the images that truly belong to a class, the share that was found.",
            "It is low when much is missed, and a missed weapon costs a moderator more than a false alarm.",
            ("precision", "confusion-matrix", "f1"), ("sensitivity",),
        ),
        Term(
            "F1", "One figure for precision and recall together (their harmonic mean): it is high only if both are.",
            "It compares classes of different size more fairly than accuracy does.",
            ("precision", "recall", "accuracy"), ("F1 score",),
        ),
        Term(
            "balanced accuracy", "The mean of the recall of all classes: each class counts the same, however many images it has.",
            "Where cats are 95 of 100 images, always answering cat is 95% accurate and 50% balanced.",
            ("accuracy", "recall", "class-balance"), ("macro average", "macro F1"),
        ),
        Term(
            "top-k accuracy", "The share of images whose label is among the k likeliest answers.",
            "With many classes it tells a near miss from a wild guess: top-5 of 100 classes asks for one of five.",
            ("accuracy", "probability", "confusion-matrix"), ("top-5",),
        ),
        Term(
            "threshold", "The probability from which on an image is taken for a class.",
            "A high one lets little in and misses much; it is chosen on validation images, by what a miss and a false alarm cost.",
            ("precision", "recall", "roc-curve"), ("operating point", "cut-off"),
        ),
        Term(
            "ROC curve", "For every threshold, the share of a class that is caught against the share of the others that is let in.",
            "The area under it (AUC) is the chance that an image of the class gets a higher probability than another one: 0.5 is guessing.",
            ("threshold", "precision-recall-curve", "recall"), ("AUC", "area under the curve"),
        ),
        Term(
            "precision-recall curve", "For every threshold, the precision of what is taken for a class against the recall.",
            "Where a class is rare it is more honest than the ROC curve; the area under it is the average precision.",
            ("threshold", "roc-curve", "precision"), ("average precision",),
        ),
        Term(
            "calibration", "How well the confidence of the answers agrees with how often they are right.",
            "Answers given with 80% should be right 80 times of 100; the expected calibration error is the mean distance from that.",
            ("probability", "threshold", "label-smoothing"),
            ("reliability diagram", "expected calibration error", "ECE", "temperature scaling"),
        ),
        Term(
            "slice", "A part of the images that have something in common, such as the dark ones or those of one folder.",
            "A good accuracy over all can hide one slice that fails; it says what to label or collect next.",
            ("accuracy", "class-balance", "interval"), ("subgroup",),
        ),
    ),
    "Looking inside": (
        Term(
            "attribution", "A map over a picture of how much each part spoke for or against an answer.",
            "It can show that a network looks at the grass and not at the cow, but it is a hint and no proof.",
            ("saliency", "grad-cam", "integrated-gradients", "occlusion"), ("explanation",),
        ),
        Term(
            "saliency", "The gradient of a class's score for every pixel: where a little change would move the answer most.",
            "Quick and exact but noisy: it shows where the network is sensitive, not why it decided.",
            ("gradient", "attribution", "grad-cam"), ("saliency map",),
        ),
        Term(
            "Grad-CAM", "Weighs the maps of the last convolution by how much each raises the score of a class and adds them up.",
            "A coarse map of regions, and a good first look; it needs a network with convolutions.",
            ("convolution", "saliency", "attribution"), (),
        ),
        Term(
            "integrated gradients", "Adds up the gradients on the way from an empty or average picture to this one.",
            "Its parts add up to the change in the score, so nothing of the answer is left unexplained.",
            ("saliency", "attribution", "gradient-shap"), (),
        ),
        Term(
            "gradient SHAP", "Integrated gradients averaged over several random starting pictures.",
            "It depends less on one choice of starting picture, and small details differ from run to run.",
            ("integrated-gradients", "attribution", "saliency"), ("SHAP",),
        ),
        Term(
            "occlusion", "Covers one square of the picture after another and watches how the score falls.",
            "It is a real experiment, so it can be believed where the square fits the thing.",
            ("attribution", "grad-cam", "probability"), (),
        ),
    ),
}  # fmt: skip
TERMS = {term.slug: term for terms in GROUPS.values() for term in terms}


def as_groups() -> list[dict[str, Any]]:
    """Title and terms of each group, as the panel reads them."""
    return [{"title": title, "terms": [asdict(t) | {"slug": t.slug} for t in terms]} for title, terms in GROUPS.items()]
