// Starts the provider's window with the data of the page. A top-level function keeps its names to itself.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId('checkout').textContent);
  const button = byId('pay');
  const trouble = (text) => {
    byId('trouble').textContent = text;
    byId('trouble').hidden = !text;
    button.disabled = false;
  };
  if (typeof TossPayments !== 'function') {
    trouble(data.text.notLoaded);
    button.addEventListener('click', () => location.reload());
    return;
  }
  const payment = TossPayments(data.clientKey).payment({ customerKey: TossPayments.ANONYMOUS });
  button.addEventListener('click', async () => {
    button.disabled = true;
    byId('trouble').hidden = true;
    try {
      await payment.requestPayment({
        method: data.method,
        amount: data.amount,
        orderId: data.orderId,
        orderName: data.orderName,
        successUrl: data.successUrl,
        failUrl: data.failUrl,
      });
    } catch (error) {
      // A closed window is no end: the shopper may open it again, or go back to the order.
      trouble(error && error.message ? String(error.message) : data.text.notOpened);
    }
  });
  button.disabled = false;
})();
