"""The network `unet` in PyTorch, and its training, as an experienced PyTorch user would write them."""

import torch
from torch import nn

from keras_dae.config import RECIPES
from keras_dae.networks.unet import DECODER_BLOCKS, ENCODER_BLOCKS, HALF, MIDDLE_BLOCKS, QUARTER


class Block(nn.Module):
    """A residual block: x + conv(relu(conv(x)))."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.conv1(x)))


class UNet(nn.Module):
    """float32 `(batch, channels, height, width)`; sizes are multiples of `keras_dae.networks.unet.UNET.multiple`.

    Its state_dict is what `keras_dae.torch_weights` writes and reads.
    """

    def __init__(self, channels=1):
        super().__init__()
        self.head = nn.Conv2d(channels, HALF, 6, stride=2, padding=2, bias=False)
        self.down = nn.Conv2d(HALF, QUARTER, 2, stride=2, bias=False)
        self.up = nn.ConvTranspose2d(QUARTER, HALF, 2, stride=2, bias=False)
        self.tail = nn.ConvTranspose2d(HALF, channels, 6, stride=2, padding=2, bias=False)
        self.stages = {}
        for stage, count, width in (
            ("encoder", ENCODER_BLOCKS, HALF),
            ("middle", MIDDLE_BLOCKS, QUARTER),
            ("decoder", DECODER_BLOCKS, HALF),
        ):
            self.stages[stage] = [f"{stage}_block{number}" for number in range(1, count + 1)]
            for name in self.stages[stage]:
                self.add_module(name, Block(width))

    def run(self, stage, x):
        """Return what the blocks of a stage make of x."""
        for name in self.stages[stage]:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, noisy):
        half = self.run("encoder", self.head(noisy))
        half = self.up(self.run("middle", self.down(half))) + half
        return noisy + self.tail(self.run("decoder", half))


class Training:
    """Recipe `photo` as a PyTorch loop: Adam, MSE, gradients clipped, weights averaged, all patches in memory.

    Args:
        clean: float32 tensor `(n, 1, height, width)` in [0, 1].
        batch_size: patches per step.
        channels_last: whether images and kernels are stored pixel by pixel, not channel by channel.
    """

    def __init__(self, clean, batch_size, channels_last=False):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.clean, self.batch_size = clean.contiguous(memory_format=layout), batch_size
        self.network = UNet(clean.shape[1]).to(memory_format=layout)
        for name, weight in self.network.named_parameters():  # much as keras_dae starts
            scale = 0.1 if "conv2" in name or "tail" in name else 1
            nn.init.kaiming_normal_(weight, nonlinearity="relu" if "conv1" in name else "linear")
            weight.data *= scale
        recipe = RECIPES["photo"]
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=recipe["learning_rate"], betas=(0.9, recipe["beta_2"]), fused=True
        )
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(recipe["average"])
        self.sigma, self.clip_norm = recipe["noise_factor"][1], recipe["clip_norm"]
        self.average = torch.optim.swa_utils.AveragedModel(self.network, multi_avg_fn=average)

    def epoch(self):
        """Train on all patches once, in a new order and with new noise; return the mean loss of the batches."""
        losses = []
        for rows in torch.randperm(len(self.clean)).split(self.batch_size):
            clean = self.clean[rows]
            sigma = torch.rand(len(rows), 1, 1, 1) * self.sigma
            noisy = clean + sigma * torch.randn_like(clean)
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.network(noisy), clean)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
            self.optimizer.step()
            self.average.update_parameters(self.network)
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()
