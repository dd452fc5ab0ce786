// Handlers of the players and pads. Each becomes an attribute of an element, as scripts never run inside a widget.

function toggleLoop(event) {
  this.closest("div").querySelector("audio").loop = this.checked;
}

function download(event) {
  this.href = this.closest("div").querySelector("audio").src;
}

function pressPad(event) {
  const pad = event.target.closest("button");
  const player = pad && document.getElementById(pad.dataset.clip);
  if (!player) return;
  if (player.loop && !player.paused) {
    player.pause();
  } else {
    player.currentTime = 0;
    player.play();
  }
}

function pressKey(event) {
  const pad = event.key.length === 1 && this.querySelector(`button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!pad || event.ctrlKey || event.metaKey || event.altKey) return;
  pad.focus();
  pad.click();
  event.preventDefault();
  event.stopPropagation();
}
