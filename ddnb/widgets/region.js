// Selects a region of a waveform by dragging. While the pointer moves the region is drawn here; at the end it is written
// into a hidden text field, which Python reads.

function startRegion(event) {
  const box = this.getBoundingClientRect();
  this.dataset.from = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  this.setPointerCapture(event.pointerId);
  event.preventDefault();
}

function drawRegion(event) {
  if (this.dataset.from === undefined) return;
  const box = this.getBoundingClientRect();
  const x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const [first, last] = [Math.min(x, +this.dataset.from), Math.max(x, +this.dataset.from)];
  this.lastElementChild.style.left = `${100 * first}%`;
  this.lastElementChild.style.width = `${100 * (last - first)}%`;
}

function endRegion(event) {
  if (this.dataset.from === undefined) return;
  const box = this.getBoundingClientRect();
  const x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const [first, last] = [Math.min(x, +this.dataset.from), Math.max(x, +this.dataset.from)];
  delete this.dataset.from;
  if (last - first < 0.002) return;
  const field = this.closest(".ddnb-region").querySelector(".ddnb-span input");
  field.value = `${first} ${last}`;
  for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
}
